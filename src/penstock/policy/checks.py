"""What a candidate must be beyond its shape: check digits, and numbers that are never given out. Pure.

Each takes the text that matched and says how many characters of it, from its start, are the thing; 0: none is. A pattern takes all that could
belong to it, and what stands behind a card number may be another number.
"""

from __future__ import annotations

import ipaddress
import re

_NO_DIGIT = re.compile(r"[^0-9]")
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22,
    "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
    "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27,
    "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33,
    "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29,
    "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country: the SWIFT registry (ISO 13616)."""
_CARD_STARTS = re.compile(
    r"(?:4\d{12}(?:\d{3}|\d{6})?|(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)\d+|3[47]\d{13}|3(?:0[0-5]|[689])\d{11,16}|"
    r"6(?:011|4[4-9]|5)\d+|35(?:2[89]|[3-8])\d+|62\d+|(?:50|5[6-9]|6)\d+)"
)
"""By issuer: Visa, Mastercard, American Express, Diners, Discover, JCB, UnionPay, Maestro."""


def luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, Annex B."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = ord(char) - 48
        if place % 2:
            value *= 2
            if value > 9:
                value -= 9
        total += value
    return total % 10 == 0


def card(text: str) -> int:
    """12 to 19 digits that an issuer could have given out, with their check digit; not one digit over and over."""
    for end in _ends_of_groups(text):
        digits = _NO_DIGIT.sub("", text[:end])
        if len(digits) < 12:
            return 0
        if len(digits) <= 19 and len(set(digits)) > 1 and _CARD_STARTS.fullmatch(digits) is not None and luhn(digits):
            return end
    return 0


def _ends_of_groups(text: str) -> list[int]:
    """Where a group of digits or letters ends, the last first."""
    return [place for place in range(len(text), 0, -1) if text[place - 1].isalnum() and (place == len(text) or not text[place].isalnum())]


def ssn(text: str) -> int:
    """A US Social Security number that may have been given out: no area 000, 666 or 900 to 999, no group 00, no serial 0000 (SSA), and none of
    those that are known from advertisements."""
    digits = _NO_DIGIT.sub("", text)
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return 0
    return 0 if digits in ("078051120", "219099999") or len(set(digits)) == 1 else len(text)


def sin(text: str) -> int:
    """A Canadian Social Insurance Number: its check digit, and a first digit that persons have (8 is for businesses, 0 for tax numbers)."""
    digits = _NO_DIGIT.sub("", text)
    return len(text) if digits[0] != "8" and luhn(digits) and len(set(digits)) > 1 else 0


def iban(text: str) -> int:
    """Its country's length, and the remainder 1 of ISO 7064 MOD 97-10."""
    wanted = _IBAN_LENGTHS.get(text[:2].upper())
    for end in _ends_of_groups(text):
        plain = "".join(text[:end].split()).upper()
        if len(plain) == wanted:
            return end if int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1 else 0
    return 0


def ip_v4(text: str) -> int:
    """Four numbers up to 255 and no fifth, as version numbers have; not the unspecified address."""
    parts = text.split(".")
    good = len(parts) == 4 and all(int(part) <= 255 and (part == "0" or part[0] != "0") for part in parts)
    return len(text) if good and text != "0.0.0.0" else 0


def ip_v6(text: str) -> int:
    """An address with at least one digit, since `a::b` is a name in many languages; a colon behind it is the sentence's."""
    for end in (len(text), len(text) - 1):
        try:
            address = ipaddress.IPv6Address(text[:end])
        except ValueError:
            if not text.endswith(":"):
                return 0
            continue
        return end if any(char.isdigit() for char in text[:end]) and not address.is_unspecified else 0
    return 0


def phone(text: str) -> int:
    """An international number (E.164: `+`, 8 to 15 digits, no 0 first), or ten digits of North America whose area and exchange begin with 2 to 9."""
    digits = _NO_DIGIT.sub("", text)
    if text.startswith("+"):
        return len(text) if 8 <= len(digits) <= 15 and digits[0] != "0" else 0
    if len(digits) == 11 and digits[0] == "1":
        digits = digits[1:]
    return len(text) if len(digits) == 10 and digits[0] >= "2" and digits[3] >= "2" else 0
