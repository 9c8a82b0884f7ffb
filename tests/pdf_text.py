"""The letters of a PDF that are text: a stand-in for `pdftotext`, but for ligatures (ff, fi)."""

import re
import zlib


def pdf_words(content: bytes) -> str:
    """Letters in the order of drawing, of fonts of type 42."""
    letters = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            drawn = zlib.decompressobj().decompress(stream)  # its last byte may be missing
        except zlib.error:
            continue
        if b" Tf" in drawn:
            for shown in re.findall(rb"\[(.*?)\]\s+TJ", drawn, re.DOTALL):
                for text in re.findall(rb"\(((?:[^()\\]|\\.)*)\)", shown, re.DOTALL):
                    letters.append(re.sub(rb"\\(.)", rb"\1", text.replace(b"\0", b"")))
                letters.append(b" ")
    return b"".join(letters).decode("latin-1")
