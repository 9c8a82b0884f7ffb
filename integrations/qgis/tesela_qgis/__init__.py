"""Tesela in QGIS: Processing algorithms that call the command `tesela`, and a panel to review changes and samples."""

from __future__ import annotations


def classFactory(iface):
    """Make the plugin; QGIS calls this."""
    from tesela_qgis.plugin import TeselaPlugin

    return TeselaPlugin(iface)
