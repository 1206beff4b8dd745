"""What each recogniser finds, and what only looks like it."""

from __future__ import annotations

import pytest

from penstock.policy.checks import luhn
from penstock.policy.matcher import Findings, Hold, Matcher
from penstock.policy.recognisers import GROUPS, RECOGNISERS, names_of
from penstock.policy.rules import Terms, built_in
from penstock.policy.syntax import shape_of
from penstock.policy.whole import judge

FOUND: dict[str, list[str]] = {
    "email": ["a@b.co", "jane.doe+tag@sub.example.co.uk", "x_y%z@example.museum", "jürgen@example.de", "1@2.io",
              "name@müller.de", "info@bücher-müller.example", "mail@ku\u0308nstler.de", "name@例え.jp", "имя@почта.example.com", "почта@пример.рф",
              "用户@例子.中国", "संपर्क@डाटामेल.भारत", "회사@예시.한국", "name@mail.ตัวอย่าง.ไทย", "a@xn--mller-kva.de", "a@xn--e1afmkfd.xn--p1ai",
              "a@beratung.vermögensberater", "a@my_host.example.com"],
    "phone": ["+1 415 555 2671", "+44 20 7946 0958", "+4930123456", "(415) 555-2671", "415-555-2671", "415.555.2671", "1-800-555-0199",
              "+49 (30) 901820"],
    "card": ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "3782 822463 10005", "5555555555554444",
             "2223003122003222", "6011111111111117", "3530111333300000", "6200000000000005", "30569309025904", "4222222222222"],
    "ssn": ["123-45-6789", "001-01-0001", "899 99 9999"],
    "sin": ["130 692 544", "130-692-544", "046 454 286"],
    "iban": ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606", "NO9386011117947",
             "MT84MALT011000012345MTLCAST001S"],
    "ip_v4": ["10.0.0.1", "192.168.100.254", "8.8.8.8", "255.255.255.255"],
    "ip_v6": ["2001:db8:85a3::8a2e:370:7334", "fe80::1", "::1", "2001:0db8:0000:0000:0000:ff00:0042:8329", "::ffff:192.0.2.128", "2001:db8::"],
    "cloud_key": ["AKIAIOSFODNN7EXAMPLE", "ASIAY34FZKBOKMUTVV7A", "AIzaSyA-1234567890abcdefghijklmnopqrstu", "ya29.a0AfH6SMBx-1234567890abcdefghij",
                  "GOCSPX-abcdefghijklmnopqrstuvwx"],
    "api_token": ["sk-proj-abcdefghijklmnopqrstuvwxyz012345", "sk-ant-api03-abcdefghijklmnopqrstuvw", "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
                  "github_pat_11ABCDEFG0abcdefghijkl_mnopqr", "glpat-abcdefghijklmnopqrst", "xoxb-123456789012-abcdefghij",
                  "sk_live_abcdefghijklmnopqrstuvwx",
                  "hf_abcdefghijklmnopqrstuvwxyzABCDEF", "npm_abcdefghijklmnopqrstuvwxyz0123456789",
                  "SG.abcdefghijklmnopqrstuv.wxyzABCDEFGHIJKLMNOPQRSTUV",
                  "gsk_abcdefghijklmnopqrstuvwxyz", "pypi-AgEIcHlwaS5vcmcCJGFiY2RlZg"],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UifQ." + "A" * 342],
    "private_key": ["-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----",
                    "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXk=\\n-----END OPENSSH PRIVATE KEY-----",
                    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v1.4.11 (GNU/Linux)\nComment: Ada <ada@example.com>\n\nlQOYBF\n=abcd\n"
                    "-----END PGP PRIVATE KEY BLOCK-----",
                    "-----BEGIN RSA PRIVATE KEY-----\n> MIIE\n> q83v\n> -----END RSA PRIVATE KEY-----",
                    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1234\n\nMHcCAQEE\n-----END EC PRIVATE KEY-----"],
}  # fmt: skip
PASSED: dict[str, list[str]] = {
    "email": ["a@b", "@example.com", "look @ that", "user@localhost", "C++@home", "https://example.com/@handle",
              "@müller.de", "name@müller", "name@-müller.de", "name@müller-.de", "name@例え", "name@例え。", "联系@张三.谢谢", "名前@例え.1"],
    "phone": ["2024-10-05", "1234567890", "415-155-2671", "115-555-2671", "+0 123 456 789", "version 415.555", "id 415-555-26712", "12:30:45"],
    "card": ["4111111111111112", "1234567812345670", "0000000000000000", "4111 1111 1111", "1234 5678 9012", "3.4111111111111111",
             "order 20241005123456"],
    "ssn": ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "078-05-1120", "123456789", "123-45-67890", "1-123-45-6789"],
    "sin": ["130 692 545", "830 692 544", "111 111 111", "130692544"],
    "iban": ["DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000", "AB12 is a seat", "US64SVBKUS6S3300958879"],
    "ip_v4": ["1.2.3", "1.2.3.4.5.6.7.8", "1.2.3.4.5", "256.1.1.1", "0.0.0.0", "v1.2.3.4", "01.2.3.4"],
    "ip_v6": ["12:30:45", "std::vector", "a::b", "::", "10:20", "face:book", "1:2:3:4:5:6:7:8:9"],
    "cloud_key": ["AKIA is a prefix", "AKIAshort", "AIza", "XAKIAIOSFODNN7EXAMPLE"],
    "api_token": ["sk-short", "a task-force-that-has-a-long-name", "risk-assessment-of-long-names", "ghp_short", "the xoxb- prefix"],
    "jwt": ["eyJ", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.abc.def"],
    "private_key": ["-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "--- BEGIN PRIVATE KEY ---"],
}  # fmt: skip


def test_the_lists_are_complete() -> None:
    assert set(FOUND) == set(PASSED) == set(RECOGNISERS)
    assert all(set(names) <= set(RECOGNISERS) for names in GROUPS.values())
    assert names_of("secrets") == GROUPS["secrets"]
    assert names_of("card") == ("card",)
    assert names_of("nothing") == ()


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_found(name: str, text: str) -> None:
    rule = built_in(name, Terms("g"))
    for before, behind in (("", ""), ("It is ", "."), ("(", ")"), ('"', '"'), ("a\n", "\nb"), ("is: ", ", or so")):
        findings = Findings()
        assert judge(before + text + behind, [rule], findings) == before + rule.mask + behind
        assert findings.hits == {("g", "mask"): 1}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in PASSED.items() for text in texts])
def test_passed(name: str, text: str) -> None:
    findings = Findings()
    told = f"It is {text} here."
    assert judge(told, [built_in(name, Terms("g"))], findings) is told
    assert not findings.hits


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("card", "4111 1111 1111 1111 2024 x", "[CARD] 2024 x"),
        ("card", "9 4111 1111 1111 1111", "9 [CARD]"),
        ("iban", "DE89 3704 0044 0532 0130 00 EUR 12", "[IBAN] EUR 12"),
        ("email", "to a@b.com-c and a@b.com.", "to [EMAIL]-c and [EMAIL]."),
        ("email", "a@b.com2", "[EMAIL]2"),
        ("ip_v6", "at fe80::1: it", "at [IP]: it"),
        ("private_key", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- And more", "[PRIVATE_KEY] And more"),
        ("cloud_key", "AccountKey=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRST==;x", "AccountKey=[CLOUD_KEY];x"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.dozjgN... so", "[JWT]... so"),
        ("card", "yours...4111111111111111", "yours...[CARD]"),
        ("ip_v4", "the host...10.0.0.1", "the host...[IP]"),
        ("cloud_key", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY x", "AWS_SECRET_ACCESS_KEY=[CLOUD_KEY] x"),
        ("cloud_key", "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE/ x", "aws_secret_access_key=[CLOUD_KEY] x"),
        ("cloud_key", '"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKE+",', '"SecretAccessKey": "[CLOUD_KEY]",'),
        ("cloud_key", 'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"', 'aws_secret_access_key = "[CLOUD_KEY]"'),
    ],
)
def test_no_more_than_the_thing(name: str, text: str, wanted: str) -> None:
    assert judge(text, [built_in(name, Terms("g"))], Findings()) == wanted


@pytest.mark.parametrize("name", ["phone", "card", "ssn", "sin", "iban"])
@pytest.mark.parametrize(("space", "dash"), [("\u00a0", "\u2011"), ("\u202f", "\u2013"), ("\u2009", "\u2010"), ("\u2007", "\u2012")])
def test_numbers_as_models_set_them(name: str, space: str, dash: str) -> None:
    """With spaces and hyphens at which no line breaks."""
    rule = built_in(name, Terms("g"))
    for text in FOUND[name]:
        told = f"It is {text.replace(' ', space).replace('-', dash)}, or so."
        assert judge(told, [rule], Findings()) == f"It is {rule.mask}, or so."
        for cut in range(len(told) + 1):
            matcher = Matcher([rule], Findings(), Hold())
            pieces = [*matcher.feed(told[:cut], 0.0), *matcher.feed(told[cut:], 0.0), *matcher.finish(0.0)]
            assert "".join([piece for piece, _, _ in pieces]) == f"It is {rule.mask}, or so."
    for text in PASSED[name] if dash in "\u2010\u2011" else ():
        told = f"It is {text.replace(' ', space).replace('-', dash)} here."
        assert judge(told, [rule], Findings()) == told


@pytest.mark.parametrize("name", list(FOUND))
@pytest.mark.parametrize(("left", "right"), [("番号は", "です"), ("号码", "。"), ("번호는", "입니다"), ("เลข", "ครับ")])
def test_scripts_without_spaces_stand_right_beside(name: str, left: str, right: str) -> None:
    rule = built_in(name, Terms("g"))
    for text in FOUND[name]:
        told = judge(left + text + right, [rule], Findings())
        assert told == ("" if name == "email" else left) + rule.mask + right, "an address may begin with any letter"


@pytest.mark.parametrize(("name", "text"), [
    ("card", "é4111111111111111"), ("ssn", "123-45-6789é"), ("ip_v4", "ж10.0.0.1"), ("iban", "éNO9386011117947"),
])  # fmt: skip
def test_letters_of_other_scripts_are_of_the_word(name: str, text: str) -> None:
    assert judge(text, [built_in(name, Terms("g"))], Findings()) == text


def test_every_recogniser_can_judge_streams_and_holds_little() -> None:
    for name, known in RECOGNISERS.items():
        shape = shape_of(known.pattern, trusted=True)
        assert shape.gate is not None, name
        assert shape.width <= 512, name


@pytest.mark.parametrize("text", FOUND["email"])
def test_an_address_is_found_however_it_is_cut(text: str) -> None:
    rule = built_in("email", Terms("g"))
    told = f"To {text}, or so."
    for cut in range(len(told) + 1):
        findings = Findings()
        matcher = Matcher([rule], findings, Hold())
        pieces = [*matcher.feed(told[:cut], 0.0), *matcher.feed(told[cut:], 0.0), *matcher.finish(0.0)]
        assert "".join([piece for piece, _, _ in pieces]) == "To [EMAIL], or so."
        assert findings.held_chars <= len(text) + 1


def test_luhn() -> None:
    assert luhn("79927398713")
    assert not any(luhn(f"7992739871{digit}") for digit in "012456789")
