"""The U-Net of several dates: one encoder for all dates, attention over them, one decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tesela.core.band_dates import STATIC, group_by_date
from tesela.core.errors import ExpertError, InputError, join_words
from tesela.models.architecture import whole_number
from tesela.models.segmentation.unet import MOST_DATES, UnetArchitecture, make_unet

if TYPE_CHECKING:
    from tesela.models.segmentation.encoder_decoder import EncoderDecoder


@dataclass(frozen=True)
class UnetDatesArchitecture(UnetArchitecture):
    """
    A U-Net whose encoder sees one date at a time; attention joins the dates.

    No tensor depends on the number of dates, so an expert maps scenes that lack some of them.
    """

    days: tuple[int, ...] = (183,)
    """Day of the year of each date."""

    @property
    def kind(self) -> str:
        """Name of the family in an expert's header."""
        return "unet_dates"

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"U-Net with attention over {len(self.days)} dates, encoder {self.encoder}"

    @property
    def date_positions(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the bands of each date."""
        dates = self.band_dates or (0,) * self.bands
        return tuple(
            tuple(place for place, date in enumerate(dates) if date == number)
            for number in range(len(self.days))
        )

    @property
    def static_positions(self) -> tuple[int, ...]:
        """Positions of the bands that belong to no date; the encoder sees them with each date."""
        return tuple(place for place, date in enumerate(self.band_dates) if date == STATIC)

    @classmethod
    def plan(cls, *, bands: int, classes: int, encoder: str, decoder: str) -> UnetDatesArchitecture:
        """Architecture for the settings of a training, of a single date; `of_bands` gives it its dates."""
        made = UnetArchitecture.plan(bands=bands, classes=classes, encoder=encoder, decoder=decoder)
        return cls(bands, classes, encoder=encoder, decoder_channels=made.decoder_channels)

    def of_bands(self, names: Sequence[str]) -> UnetDatesArchitecture:
        """
        The architecture with the dates that the names of the bands give.

        Raises
        ------
        InputError
            If a date lacks a band that another has, or has its bands in another order.
        """
        dates = group_by_date(names)
        dates.check_equal()
        for name, places in zip(dates.names, dates.bands, strict=True):
            if list(places) != sorted(places):
                raise InputError(
                    f"The bands of date '{name}' stand in another order than those of date '{dates.names[0]}' "
                    f"({join_words(dates.kinds[0])}). Give all dates in the same order (bands = [...])."
                )
        return replace(self, bands=len(names), band_dates=dates.of_bands, days=dates.days)

    def build(
        self, *, weights: str | Path | None = None, band_names: Sequence[str] | None = None
    ) -> EncoderDecoder:
        """
        Make the network, with random weights, or with pretrained ones of the encoder.

        Weights are matched to the bands of one date, as for a U-Net of that date; two further bands are the sine and
        cosine of its day of the year.
        """
        from tesela.models.segmentation.dates_encoder import DatesEncoder
        from tesela.models.segmentation.encoder_decoder import EncoderDecoder

        seen = (*self.date_positions[0], *self.static_positions)
        names = None if band_names is None else [*(band_names[place] for place in seen), "season", "season"]
        single = make_unet(
            encoder=self.encoder,
            bands=len(seen) + 2,
            classes=self.classes,
            decoder_channels=self.decoder_channels,
            weights=weights,
            band_names=names,
        )
        encoder = DatesEncoder(
            single.encoder, dates=self.date_positions, static=self.static_positions, days=self.days
        )
        return EncoderDecoder(
            encoder, single.decoder, single.head, bands=self.bands, classes=self.classes, stride=self.stride
        )

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same value."""
        return {**super().to_dict(), "days": list(self.days)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> UnetDatesArchitecture:
        """Build from `to_dict`'s document, checking every field."""
        plain = UnetArchitecture.from_dict(document)
        days = document.get("days")
        if not isinstance(days, list) or not 1 <= len(days) <= MOST_DATES:
            raise ExpertError(f"architecture: days is {days!r}, a list of 1 to {MOST_DATES} was needed.")
        if max(plain.band_dates, default=0) >= len(days):
            raise ExpertError(f"architecture: band_dates names a date, but days gives {len(days)} only.")
        made = cls(
            plain.bands,
            plain.classes,
            encoder=plain.encoder,
            decoder_channels=plain.decoder_channels,
            band_dates=plain.band_dates,
            days=tuple(whole_number({"days": item}, "days", most=366) for item in days),
        )
        sizes = {len(bands) for bands in made.date_positions}
        if len(sizes) != 1 or 0 in sizes:
            raise ExpertError("architecture: the dates have different numbers of bands.")
        return made
