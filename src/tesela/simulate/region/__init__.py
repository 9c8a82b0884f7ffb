"""The virtual region: landscape, references and imagery."""
