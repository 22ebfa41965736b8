from __future__ import annotations

import pytest

from delivery.transport.timeouts import SmtpTimeouts


def test_it_reads_what_the_environment_says():
    assert SmtpTimeouts.parse("connect=3, banner=4,command=5,data=6.5,dot=7") == SmtpTimeouts(3, 4, 5, 6.5, 7)


def test_what_is_not_named_keeps_its_default():
    assert SmtpTimeouts.parse("dot=60") == SmtpTimeouts(dot=60)
    assert SmtpTimeouts.parse("") == SmtpTimeouts(connect=30, banner=300, command=300, data=120, dot=600)


@pytest.mark.parametrize("text", ["speed=1", "dot", "dot=", "dot=soon", "dot=0", "dot=-1", "dot=nan", "dot=inf"])
def test_it_refuses_what_makes_no_sense_with_a_sentence(text):
    with pytest.raises(ValueError, match="time-out"):
        SmtpTimeouts.parse(text)
