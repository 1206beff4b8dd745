"""Whose an exchange was: user, project, session, client application, effort.

In: the head of a request and the fields that its body says it by (`vocabulary.said`, copied by each protocol's `peek`). Out: words for the
row, or `None` where nothing was said. Nothing is guessed from what a prompt says.

- `heads`: what headers say; cheap, for it runs on the event loop. `bodies`: what the body's fields say. `agents`: the client application, by a
  table of user agents. `efforts`: how hard the model was told to think, in one word. `previews`: the beginning of the last user message.

Laws: what comes from outside is bounded, and what looks like a secret in it is masked. No input raises.

Not here: keys and who may enter (`admission`), where rows are kept (`ledger`). No I/O, no clock.
"""

from penstock.attribution.agents import client_of
from penstock.attribution.bodies import Ascribed, ascribe
from penstock.attribution.heads import Claimed, read_head
from penstock.attribution.previews import preview_of

__all__ = ["Ascribed", "Claimed", "ascribe", "client_of", "preview_of", "read_head"]
