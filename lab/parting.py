"""One long plain text -> documents, read a block at a time.

Documents are parted by form feeds or by two blank lines; where a text has neither, it is cut at the
first line end after every CUT_BYTES. What comes out does not depend on how the blocks were cut.
"""

import re
from collections.abc import Iterator

CUT_BYTES = 4096  # of a document, in text without marks
LARGEST_DOCUMENT = 2**28  # bytes: what a process must be able to hold; a longer one comes out cut

_MARK = re.compile(rb"\f|\r?\n(?:[ \t]*\r?\n){2,}")
_MORE = re.compile(rb"[ \t]*\r?\Z")  # of a mark there may be more, where the text read ends
_BLANK = b" \t\r\n"


def has_mark(blocks: Iterator[bytes]) -> bool:
    """Whether anything parts the text."""
    open_ = b""
    for block in blocks:
        text = open_ + block
        if _MARK.search(text):
            return True
        open_ = text[len(text.rstrip(_BLANK)) :]
    return False


def parted_by_marks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """What `re.split` at the marks gives of the blocks together, wherever they are cut."""
    text, searched, ended = b"", 0, False
    while not ended:
        block = next(blocks, None)
        ended = block is None
        text += block or b""
        begun = 0
        while (mark := _MARK.search(text, max(begun, searched))) is not None:
            if not ended and mark.group() != b"\f" and _MORE.match(text, mark.end()):
                break
            yield text[begun : mark.start()]
            begun = mark.end()
        text = text[begun:]
        searched = len(text.rstrip(_BLANK))
        if searched > LARGEST_DOCUMENT:
            break
    yield text


def cut_at_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Text in documents that end with the first line that ends after CUT_BYTES."""
    text = b""
    for block in blocks:
        text += block
        begun = 0
        while (end := text.find(b"\n", begun + CUT_BYTES)) >= 0:
            yield text[begun : end + 1]
            begun = end + 1
        text = text[begun:]
        if len(text) > LARGEST_DOCUMENT:
            break
    if text:
        yield text
