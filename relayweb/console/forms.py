"""What all forms of the console share: fields that look alike, and refusals of the business functions at their field."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest
from django.utils.functional import Promise

from accounts.refusals import Refused


class ConsoleForm(forms.Form):
    """A form whose widgets carry the console's classes. A failed one is answered with 200 and the page again."""

    use_required_attribute = False  # our own sentences, in the page's language

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            match field.widget:
                case forms.CheckboxInput() | forms.RadioSelect() | forms.CheckboxSelectMultiple():
                    kind = "form-check-input"
                case forms.Select():
                    kind = "form-select"
                case _:
                    kind = "form-control"
            field.widget.attrs.setdefault("class", kind)

    def refuse(self, refusal: Refused) -> None:
        """At the field at fault, where this form has it."""
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.sentence)


def tell(request: HttpRequest, sentence: str | Promise) -> None:
    """Said on the page one is led to, once."""
    messages.success(request, str(sentence))


def tell_refusal(request: HttpRequest, refusal: Refused) -> None:
    messages.error(request, refusal.sentence)
