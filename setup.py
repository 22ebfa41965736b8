"""What pyproject.toml cannot say: in a wheel, templates, static files and catalogues lie inside the package (relayweb/shipped).

In the checkout they stand at the top, where people look for them; settings.py knows both places.
"""

from __future__ import annotations

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from setuptools import find_packages, setup

CODE = ("accounts", "delivery", "relayweb", "smtpgate", "sandbox")
SHIPPED = ("templates", "static", "locale")

for source in Path().glob("locale/*/LC_MESSAGES/*.po"):
    with source.open("rb") as file, source.with_suffix(".mo").open("wb") as compiled:
        write_mo(compiled, read_po(file, locale=source.parent.parent.name, abort_invalid=True))

setup(
    packages=[
        *find_packages(include=[pattern for name in CODE for pattern in (name, f"{name}.*")]),
        *(f"relayweb.shipped.{name}" for name in SHIPPED),
    ],
    package_dir={f"relayweb.shipped.{name}": name for name in SHIPPED},
    package_data={
        "": ["*.toml", "*.txt", "*.css"],
        **{f"relayweb.shipped.{name}": ["**/*"] for name in SHIPPED},
    },
    include_package_data=False,
)
