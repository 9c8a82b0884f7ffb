"""The sensors whose scenes become mosaics, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tesela.core.errors import InputError, unknown_name
from tesela.sources.sensor import Sensor
from tesela.sources.sentinel2.sensor import Sentinel2

SENSORS: Mapping[str, Sensor] = {"sentinel-2": Sentinel2()}
"""A new sensor is a file that implements `Sensor`, and a line here."""

DEFAULT_SENSOR = "sentinel-2"


def find_sensor(sensor: str | Sensor) -> Sensor:
    """
    Find a sensor by name; a sensor is returned as it is.

    Raises
    ------
    InputError
        If there is no sensor of this name.
    """
    if not isinstance(sensor, str):
        return sensor
    if sensor not in SENSORS:
        raise InputError(unknown_name("sensor", sensor, SENSORS))
    return SENSORS[sensor]
