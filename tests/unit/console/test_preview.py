"""What is shown of a stored mail: read leniently, freed of whatever runs, loads or leads out."""

from __future__ import annotations

from relayweb.console import preview


def _mail(html: str, *, extra: str = "") -> bytes:
    return (
        "From: a@b.example\r\nSubject: =?iso-2022-jp?B?GyRCJDQbKEI=?=\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/related; boundary="x"\r\n\r\n'
        f"--x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n{extra}--x--\r\n"
    ).encode()


def test_scripts_forms_links_and_remote_images_are_left_out_and_counted() -> None:
    read = preview.read(
        _mail(
            "<p onclick='x()'>Hello</p><script>alert(1)</script><form action='//evil'><input></form>"
            "<a href='https://evil.example'>link</a><img src='https://evil.example/1.png'>"
            "<td background=//evil.example/2.png></td><meta http-equiv=refresh content='0;url=//evil'>"
        )
    )

    assert read.remote_count == 2
    assert "Hello" in read.html
    for forbidden in ("script", "onclick", "form", "href", "evil", "meta"):
        assert forbidden not in read.html


def test_an_image_that_came_with_the_mail_is_shown() -> None:
    image = (
        "--x\r\nContent-Type: image/png\r\nContent-ID: <one>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0=\r\n"
    )

    read = preview.read(_mail("<img src='cid:one'><img src='cid:two'>", extra=image))

    assert read.html.count("data:image/png;base64,") == 1
    assert [part.type for part in read.attachments] == ["image/png"]


def test_header_fields_are_decoded() -> None:
    read = preview.read(_mail("<p>x</p>"))

    assert {field.name: field.decoded for field in read.fields}["Subject"] == "ご"


def test_an_unknown_charset_is_read_as_well_as_can_be() -> None:
    content = b"Content-Type: text/plain; charset=x-nonsense\r\n\r\n\xe3\x81\x82 ok\r\n"

    assert "あ ok" in preview.read(content).text


def test_what_is_no_mail_at_all_gives_what_can_be_read() -> None:
    assert preview.read(b"\x00\xff\xfe").fields == ()
    assert preview.read(b"").text == ""
