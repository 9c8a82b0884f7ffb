"""The shipped legends and crosswalks, as data files read by `tesela.io.legends`."""

__all__: list[str] = []
