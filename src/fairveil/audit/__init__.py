"""Who is missed by a face identification system, and how far that is the test set's doing (chapter 5).

From vectors of any recognizer, whose they are, and the group of each:

    from fairveil.audit import audit
    print(audit(vectors, identities, groups))
"""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.audit.auditing import Audit as Audit
    from fairveil.audit.auditing import audit as audit
    from fairveil.audit.auditing import audit_embeddings as audit_embeddings
    from fairveil.audit.imbalance import Shares as Shares
    from fairveil.audit.power import identities_needed as identities_needed
    from fairveil.audit.power import ratio_visible as ratio_visible
    from fairveil.faces.vectors import Embeddings as Embeddings

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "auditing": "Audit audit audit_embeddings",
        "imbalance": "Shares",
        "power": "identities_needed ratio_visible",
        "fairveil.faces.vectors": "Embeddings",
    },
)
