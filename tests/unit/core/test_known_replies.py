"""What each known kind of reply means: the receivers' published and observed ones, row by row.

Texts are our own words around the part that distinguishes a reply. The last column is what may follow for the address:
``dead`` may suppress it at once, ``counts`` may suppress it after several, ``alive`` never does.
"""

from __future__ import annotations

import pytest

from delivery.core.classification import Action, classify
from delivery.core.reply import Origin, Phase, from_lines, made_up

ROWS = """
1|google|eod|421 4.7.0 suspicious due to the very low reputation of the sending IP address|ip_block|alive
2|google|eod|421 4.7.0 suspicious due to the very low reputation of the sending domain|policy|alive
3|google|eod|421 4.7.28 an unusual rate of unsolicited mail from your IP address|rate_limit|alive
4|google|eod|421 4.7.28 an unusual rate of unsolicited mail from your DKIM domain|rate_limit|alive
5|google|eod|421 4.7.28 too many mails with the same Message-ID|content|alive
6|google|eod|550 5.7.28 an unusual rate of unsolicited mail from your IP address; blocked|ip_block|alive
7|google|eod|550 5.7.1 very low reputation of the sending domain|policy|alive
8|google|eod|550 5.7.1 likely unsolicited mail|content|alive
9|google|eod|421 4.7.0 suspicious due to the nature of the content or the links within|content|alive
10|google|eod|550 5.7.26 unauthenticated; SPF or DKIM is needed|authentication|alive
11|google|eod|550 5.7.26 failed SPF, the record has a hard fail (-all)|authentication|alive
12|google|eod|451 4.7.26 DMARC policy could not be read: temporary DNS failure|transient|alive
13|google|eod|550 5.7.26 not accepted due to the domain's DMARC policy|authentication|alive
14|google|eod|550 5.7.27 SPF did not pass|authentication|alive
15|google|eod|550 5.7.30 DKIM did not pass|authentication|alive
16|google|eod|421 4.7.32 From is not aligned with the authenticated domain|authentication|alive
17|google|eod|550 5.7.24 suspicious SPF record|authentication|alive
18|google|eod|550 5.7.29 not sent over TLS|tls|alive
19|google|eod|550 5.7.25 the IP address has no PTR record|reverse_dns|alive
20|google|eod|550 5.7.1 does not meet IPv6 sending guidelines regarding PTR records|reverse_dns|alive
21|google|rcpt|450 4.2.1 the account is receiving mail too quickly|rate_limit|alive
22|google|rcpt|550 5.2.1 receiving mail at a rate that prevents additional delivery|rate_limit|counts
23|google|rcpt|452 4.2.2 the account is out of storage space|mailbox_full|counts
24|google|rcpt|552 5.2.2 the account is out of storage space and inactive|inactive|dead
25|google|rcpt|550 5.1.1 the account does not exist|bad_mailbox|dead
26|google|rcpt|550 5.2.1 the account is disabled|inactive|dead
27|google|eod|550 5.7.1 not RFC 5322 compliant: From header is missing|format|alive
28|google|eod|552 5.3.4 your message exceeded size limits|too_large|alive
29|google|eod|552 5.7.0 blocked because its content presents a potential security issue|content|alive
30|google|eod|421 4.3.0 temporary system problem, try again later|transient|alive
31|google|rcpt|452 4.5.3 your message has too many recipients|rate_limit|alive
32|google|eod|554 5.4.6 message exceeded 50 hops, this may indicate a mail loop|loop|alive
33|google|eod|550 5.7.1 the IP you are using is not authorized to send email directly to our servers|ip_block|alive
34|outlook|mail|451 4.7.650 temporarily rate limited due to IP reputation (S775)|ip_block|alive
35|outlook|connect|451 4.7.652 exceeded the maximum number of connections (S3115)|rate_limit|alive
36|outlook|mail|421 4.7.0 exceeded the maximum number of messages per connection|rate_limit|alive
37|office365|mail|451 4.7.500 Server busy. Please try again later (AS77713)|transient|alive
38|office365|connect|451 4.7.550 Access denied, please try again later|ip_block|alive
39|office365|connect|421 4.3.2 service not available|transient|alive
40|outlook|mail|550 5.7.1 part of their network is on our block list (S3150)|ip_block|alive
41|office365|mail|550 5.7.606 Access denied, banned sending IP|ip_block|alive
42|office365|eod|550 5.7.511 Access denied, banned sender|ip_block,policy|alive
43|outlook|eod|550 5.7.515 Access denied, does not meet the required authentication level|authentication|alive
44|office365|eod|550 5.7.509 Access denied, does not pass DMARC verification and has a policy of reject|authentication|alive
45|office365|connect|550 5.7.25 sending IPv6 address must have a reverse DNS record|reverse_dns|alive
46|office365|helo|550 5.7.506 Access denied, Bad HELO|reverse_dns|alive
47|office365|rcpt|550 5.7.1 Service unavailable, client host blocked using Spamhaus|ip_block|alive
48|outlook|rcpt|550 5.5.0 Requested action not taken: mailbox unavailable|bad_mailbox|dead
49|office365|rcpt|550 5.4.1 Recipient address rejected: Access denied|bad_mailbox|counts
50|office365|rcpt|550 5.2.121 recipient's hourly message receive limit exceeded|rate_limit|alive
51|office365|rcpt|550 5.7.507 Access denied, the recipient has blocked the IP|policy|alive
52|office365|rcpt|550 5.7.133 sender not authenticated for the group|policy|alive
53|office365|rcpt|452 4.5.3 too many recipients|rate_limit|alive
54|office365|eod|550 5.7.512 message must be RFC 5322 section 3.6.2 compliant|format|alive
55|office365|eod|550 5.7.705 tenant has exceeded limits|rate_limit|alive
56|outlook|connect|421 RP-001 the mail server IP has exceeded the rate limit allowed|rate_limit|alive
57|yahoo|connect|421 4.7.0 [TSS04] temporarily deferred due to unexpected volume or user complaints|ip_block|alive
58|yahoo|connect|421 4.7.0 [TSS05] temporarily deferred|ip_block|alive
59|yahoo|connect|421 4.7.0 [IPTS04] temporarily deferred|ip_block|alive
60|yahoo|eod|421 4.7.0 [TS01] temporarily deferred due to user complaints|policy|alive
61|yahoo|eod|421 4.7.0 [TS02] temporarily deferred|rate_limit|alive
62|yahoo|connect|553 5.7.2 [TSS09] all messages will be permanently deferred|ip_block|alive
63|yahoo|connect|553 5.7.1 [BL21] connections will not be accepted, the IP is in Spamhaus|ip_block|alive
64|yahoo|mail|421 Max message per connection reached, closing|rate_limit|alive
65|yahoo|eod|550 5.7.9 blocked because the sender is unauthenticated|authentication|alive
66|yahoo|eod|554 5.7.9 message not accepted for policy reasons [PH01]|content|alive
67|yahoo|rcpt|554 delivery error: dd This user doesn't have a yahoo.com account|bad_mailbox|dead
68|yahoo|rcpt|554 30 Sorry, this mailbox is disabled|inactive|dead
69|yahoo|rcpt|450 user is receiving mail too quickly|rate_limit|alive
70|yahoo|mail|451 mail from an unresolvable RFC.5321 from domain|authentication|alive
71|yahoo_japan|connect|553 VS98-IP0 deferred|ip_block|alive
72|yahoo_japan|connect|421 4.7.0 [TSS04] temporarily deferred|ip_block|alive
73|apple|eod|421 4.7.1 deferred due to excessive volume|rate_limit|alive
74|apple|connect|451 4.7.1 [BS02] Service unavailable - try again later|transient|alive
75|apple|eod|550 5.7.1 mail rejected, the domain is in Spamhaus DBL|policy|alive
76|apple|eod|554 5.7.1 [HME1] SPF and DKIM both failed|authentication|alive
77|apple|eod|554 5.7.1 [CS01] message rejected due to local policy|content|alive
78|apple|rcpt|550 5.1.1 unknown or illegal alias|bad_mailbox|dead
79|apple|rcpt|552 5.2.2 user is over quota|mailbox_full|counts
80|comcast|eod|421 4.1.0 RL000003 throttled, try again later|rate_limit|alive
81|comcast|connect|554 5.7.1 BL000000 blocked for spam|ip_block|alive
82|orange|connect|421 4.7.1 Trop de connexions, veuillez verifier votre configuration|rate_limit|alive
83|gmx|connect|554 Transaction failed, reject due to policy restrictions: IP address|ip_block,policy|alive
84|mimecast|rcpt|451 Internal resources are temporarily unavailable|greylist|alive
85|mimecast|eod|550 DMARC Sender Invalid - envelope rejected|authentication|alive
86|proofpoint|connect|554 blocked - see https://ipcheck.proofpoint.com, using prs.proofpoint.com|ip_block|alive
87|barracuda|connect|550 permanently rejected, blocked by Barracuda Reputation|ip_block|alive
88|qq|mail|550 Ip frequency limited|rate_limit|alive
89|godaddy|connect|421 IB007 too many connections from your IP|rate_limit|alive
90|docomo|rcpt|550 Unknown user taro@docomo.ne.jp|bad_mailbox|counts
91|docomo|eod|550 Unknown user taro@docomo.ne.jp|recipient_filter|counts
92|docomo|eod|554 Transaction failed|rate_limit|alive
93|docomo|eod|552 Too much mail data|mailbox_full|counts
94|docomo|rcpt|552 too many recipients|rate_limit|alive
95|docomo|eod|500 Line Too Long|format|alive
96|au|rcpt|550 <taro@ezweb.ne.jp>: User unknown|bad_mailbox|counts
97|au|eod|550 : User unknown|recipient_filter|counts
98|au|rcpt|554 Relay access denied|bad_mailbox|alive
99|docomo|connect|421 service not available, closing transmission channel|ip_block|alive
100|softbank|rcpt|550 Invalid recipient: taro@softbank.ne.jp|bad_mailbox|counts
101|softbank|mail|553 nowhere.example does not exist|authentication|alive
102|jcom|mail|421 #4.x.2 Too many messages for this session|rate_limit|alive
103||rcpt|450 4.7.1 Greylisted, please try again in 300 seconds|greylist|alive
104||connect|421 4.7.0 too many concurrent connections from your address|rate_limit|alive
105||rcpt|554 5.7.1 rejected, blocked using zen.spamhaus.org|ip_block|alive
106||rcpt|550 5.1.1 no such user|bad_mailbox|dead
106||rcpt|556 5.1.10 the domain takes no mail (null MX)|bad_domain|dead
107||rcpt|552 5.2.2 mailbox full|mailbox_full|counts
108||mail|552 5.3.4 message too big|too_large|alive
109||eod|554 5.4.6 too many hops|loop|alive
110||rcpt|554 5.7.1 relay access denied|policy|alive
111||eod|550 5.7.1 rejected by DMARC policy|authentication|alive
112||data|503 5.5.1 bad sequence of commands|format|alive
"""
_KNOWN = [line.split("|") for line in ROWS.strip().splitlines()]
# What the network, the DNS and we ourselves say.
_UNSPOKEN = [
    ("113", Phase.CONNECT, 421, "4.4.1", "connection timed out", Origin.NETWORK, "transient"),
    ("114", Phase.ROUTING, 556, "5.1.2", "the domain does not exist (NXDOMAIN)", Origin.DNS, "bad_domain"),
]


@pytest.mark.parametrize(
    ("row", "group", "phase", "text", "expected", "address"), _KNOWN, ids=[one[0] for one in _KNOWN]
)
def test_a_known_reply_has_its_class(row: str, group: str, phase: str, text: str, expected: str, address: str) -> None:
    decided = classify(from_lines(Phase(phase), [text.encode()]), group)

    assert decided.rule != "unclassified"
    assert decided.reply_class.value in expected.split(",")
    suppressing = {"dead": {Action.FAIL_AND_SUPPRESS, Action.FAIL_AND_COUNT}, "counts": {Action.FAIL_AND_COUNT}}
    if decided.action in (Action.FAIL_AND_SUPPRESS, Action.FAIL_AND_COUNT):
        assert decided.action in suppressing.get(address, set())


@pytest.mark.parametrize(("row", "phase", "code", "enhanced", "text", "origin", "expected"), _UNSPOKEN)
def test_what_no_peer_said_has_its_class(
    row: str, phase: Phase, code: int, enhanced: str, text: str, origin: Origin, expected: str
) -> None:
    assert classify(made_up(phase, code, enhanced, text, origin), "").reply_class == expected
