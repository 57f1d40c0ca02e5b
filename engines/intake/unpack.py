"""One file out of a zip, in memory.

Enters: the zip's bytes and a member's exact name. Leaves: its bytes. Nothing is written, so no name in the archive can
lead anywhere; no more is unpacked than the archive says and a model may have.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from engines.export import MAX_MODEL_BYTES
from engines.intake.https import FetchError


def member(archive: bytes, name: str, where: str, *, limit: int = MAX_MODEL_BYTES) -> bytes:
    """The member called exactly ``name``.

    Args:
        archive: a zip file.
        name: as it stands in the archive.
        where: names the archive in messages.
        limit: bytes that it may have unpacked.

    Raises:
        FetchError: no zip, damaged, no or several such members, encrypted, or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            found = [info for info in files.infolist() if info.filename == name]
            if len(found) != 1:
                names = ", ".join(info.filename for info in files.infolist()[:8]) or "nothing"
                raise FetchError(f"{where}: holds {len(found)} files called {name!r} (it holds {names}); get it again")
            if found[0].file_size > limit:
                raise FetchError(f"{where}: {name} has {found[0].file_size} bytes unpacked, more than {limit}")
            with files.open(found[0]) as file:
                content = file.read(found[0].file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as err:
        raise FetchError(f"{where}: {name} cannot be unpacked ({err}); get the file again") from err
    if len(content) != found[0].file_size:
        raise FetchError(f"{where}: {name} unpacks to another size than the archive says; get the file again")
    return content
