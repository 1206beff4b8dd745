"""Budgets: tokens or money in a day, a week, a month, or altogether.

- `spec`: one budget, as it is written, and its window of the calendar. `charge`: what an exchange is charged. `account`: what is set aside for it,
  and what is asked of whoever keeps budgets.

Laws: what was spent, plus all that is set aside, for what runs and in advance, is never more than a budget that blocks or cuts; so it is overshot at
most by what running answers use beyond their share.

Not here: where budgets are kept (`stores.budgets`), what tokens cost (`pricing`).
"""
