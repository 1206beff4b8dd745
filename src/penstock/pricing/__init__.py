"""What an answer cost: usage -> money, by price lists that are data.

In: a provider's name, a model, counts as the provider stated them, a service tier, a time. Out: a `Price`: billionths of a US dollar as an
exact integer, and which price list gave it; or nothing, where no list knows the model. There is no default price.

- `money`: units, and how they are shown. `counts`: what contains what in each protocol's usage, taken apart. `tariff`: the rates of one
  model, and the sum. `lists`: the tariffs of `genai-prices`. `own`: prices and discounts of the configuration. `prices`: who is asked first.

Laws: money is never a float. What is counted once is billed once: the parts of `counts` never overlap. The same row priced twice gives the
same price.

Not here: where usage comes from (`protocols`), when rows are priced (`ledger`), budgets. No I/O, no clock: the time is an argument.
"""

from penstock.pricing.counts import Counts, Stated, take_apart
from penstock.pricing.money import NANOS, show_usd, to_usd
from penstock.pricing.own import OwnPrice
from penstock.pricing.prices import Place, Price, Prices
from penstock.pricing.tariff import Rates, Tariff

__all__ = ["NANOS", "Counts", "OwnPrice", "Place", "Price", "Prices", "Rates", "Stated", "Tariff", "show_usd", "take_apart", "to_usd"]
