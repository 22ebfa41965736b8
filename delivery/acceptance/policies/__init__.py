"""Why a submission may be refused: one reason per file, listed here in the order in which they are asked.

A policy returns nothing or raises ``Rejection``. Refusing early spares the client the data, but only the content policies are
asked by every door, so what matters is asked (again) there.
"""

from delivery.acceptance.policies import (
    author_domain,
    hops,
    message_size,
    null_reverse_path,
    recipient_count,
    reverse_path_domain,
    suppressed,
    tenant_state,
)

AT_MAIL = (
    tenant_state.check_mail,
    message_size.check_mail,
    null_reverse_path.check_mail,
    reverse_path_domain.check_mail,
)

AT_RECIPIENT = (tenant_state.check_recipient, suppressed.check_recipient)

AT_CONTENT = (
    tenant_state.check_content,
    message_size.check_content,
    recipient_count.check_content,
    null_reverse_path.check_content,
    hops.check_content,
    author_domain.check_content,
    reverse_path_domain.check_content,
)
