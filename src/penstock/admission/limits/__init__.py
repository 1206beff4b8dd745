"""How much: requests, tokens and open streams, in windows that slide.

Enters: what a request may come to (`estimate`), and at its end what it came to. Leaves: a grant or a refusal with the time to come again.

- `spec`: one limit, as it is written. `window`: one count (pure arithmetic). `store`: all counts, each decision one call. `estimate`: tokens before
  they are known. `headers`: how limits are told.

Laws: within any stretch of a window's length no more is let in than the limit; what is used beyond a reservation is owed and paid off; a grant is
settled or cancelled once, and then nothing of it is held.

Not here: budgets, which are kept in the database and end with the calendar (`admission.budget`).
"""
