"""What pyproject.toml cannot say: in a wheel, templates, static files, catalogues and the guide lie in relayweb/shipped.

In the checkout they stand at the top, where people look for them; settings.py knows both places.
"""

from __future__ import annotations

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from setuptools import find_packages, setup

CODE = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox")
SHIPPED = {
    f"relayweb.shipped.{name.replace('/', '.')}": name for name in ("templates", "static", "locale", "docs/guide")
}

for source in Path().glob("locale/*/LC_MESSAGES/*.po"):
    with source.open("rb") as file, source.with_suffix(".mo").open("wb") as compiled:
        write_mo(compiled, read_po(file, locale=source.parent.parent.name, abort_invalid=True))

setup(
    packages=[
        *find_packages(include=[pattern for name in CODE for pattern in (name, f"{name}.*")]),
        *SHIPPED,
    ],
    package_dir=SHIPPED,
    package_data={
        "": ["*.toml", "*.txt", "*.css"],
        **{package: ["**/*"] for package in SHIPPED},
    },
    include_package_data=False,
)
