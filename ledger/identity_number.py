"""Whether a text is a resident identity number (公民身份号码, GB 11643). Pure.

In: a text. Out: yes or no. Such a number names a person; the order stream knows people by the platform's own
numbers only. It is 17 digits, among them a day of birth, and a check character. Written here and not taken
from a library, because a replay years later must refuse the same records.
"""

import re
from datetime import date

CHARS = 18
_WEIGHTS = tuple(pow(2, 17 - place, 11) for place in range(17))
_CHECKS = "10X98765432"
_SHAPE = re.compile(r"[1-9][0-9]{5}((?:19|20)[0-9]{2})([0-9]{2})([0-9]{2})[0-9]{3}[0-9Xx]")
_WITHIN = re.compile(r"(?<![0-9A-Za-z])[0-9]{17}[0-9Xx](?![0-9A-Za-z])")


def is_identity_number(text: str) -> bool:
    """Whether a text as a whole is one."""
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return False
    try:
        date(*map(int, shape.groups()))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, text, strict=False))
    return text[-1].upper() == _CHECKS[total % 11]


def masked(text: str) -> str:
    """A text to be shown, with a star for each character of the identity numbers in it."""
    return _WITHIN.sub(lambda found: "*" * CHARS if is_identity_number(found[0]) else found[0], text)
