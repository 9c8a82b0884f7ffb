"""SIOSE AR: its GeoPackage, composition, rules and classes."""
