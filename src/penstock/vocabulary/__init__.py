"""The words that every room shares: frozen data, no behaviour.

Glossary (one word, one meaning):

- *client*, *downstream*: who asks us. *provider*, *upstream*: whom we ask.
- *protocol*: the wire format of a family of endpoints (`ProtocolId`). *operation*: what one endpoint does (`Operation`).
- *chunk*: arbitrary bytes as a socket gave them. *frame*: the bytes of one server-sent event, or of one element of a JSON array.
  *event*: what a frame means, in neutral words (`events`).
- *terminal event*: the event after which a protocol's stream is complete.
- *ending*: one of the closed list of ways in which an exchange is over (`Ending`); *outcome*: the ending with its cause.
- *fault*: an error that we tell a client. *upstream error*: an error that a provider told us.
- *usage*: tokens, as the provider states them; unknown is `None`, never 0. *kinds*: those among them that are of pictures, film or cached sound
  (a provider's *modality*).

No I/O, no clock, no other room.
"""
