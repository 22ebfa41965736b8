"""PostgreSQL's cidr type, which Django has no field for."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkField(models.Field):
    """An IPv4 or IPv6 network in CIDR notation; host bits must be zero."""

    description = "IP network"
    empty_strings_allowed = False

    def db_type(self, connection: Any) -> str:
        return "cidr"

    def to_python(self, value: Any) -> Network | None:
        if value is None or isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return value
        try:
            return ipaddress.ip_network(str(value))
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Network | None:
        return self.to_python(value)

    def get_prep_value(self, value: Any) -> str | None:
        network = self.to_python(value)
        return None if network is None else str(network)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> str | None:
        return value if prepared else self.get_prep_value(value)
