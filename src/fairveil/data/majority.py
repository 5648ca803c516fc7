"""One group for each person where photos are labeled one by one: that of most of their photos."""

import polars as pl

_NAMED = 3  # people whom a sentence names


def vote(frame: pl.DataFrame, column: str, *, of: str | None = None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Give all labeled photos of a person the label that most of them have.

    A person whose labels tie has none afterwards, since none could be told to be right. Photos without a label, and
    those of nobody known, keep what they have.

    Args:
        frame: with the columns `identity` and `column`, null where unknown.
        column: what is to be one label for each person.
        of: the data set, for the sentences.

    Returns:
        The frame, its rows in their order; and what was changed, in sentences, none where every person had one label.

    >>> frame = pl.DataFrame({"identity": ["a", "a", "a", "b"], "Male": ["yes", "yes", "no", "no"]})
    >>> vote(frame, "Male")[0]["Male"].to_list()
    ['yes', 'yes', 'yes', 'no']
    """
    labeled = frame.select("identity", label=pl.col(column)).drop_nulls()
    counts = labeled.group_by("identity", "label").len()
    mixed = counts.filter(pl.len().over("identity") > 1)
    if not len(mixed):
        return frame, ()
    most = mixed.filter(pl.col("len") == pl.col("len").max().over("identity"))
    won = dict(most.filter(pl.len().over("identity") == 1).select("identity", "label").rows())
    winners = {person: won.get(person) for person in mixed["identity"].unique().sort()}
    theirs = pl.col("identity").replace_strict(winners, default=None, return_dtype=pl.String)
    asked = pl.col("identity").is_in(list(winners)) & pl.col(column).is_not_null()
    voted = frame.with_columns(pl.when(asked).then(theirs).otherwise(pl.col(column)).alias(column))
    tied = len(winners) - len(won)
    return voted, (_told(column, of, list(winners), labeled["identity"].n_unique(), tied),)


def _told(column: str, of: str | None, mixed: list[str], people: int, tied: int) -> str:
    """What was changed, in a sentence."""
    verb = "has" if len(mixed) == 1 else "have"
    who = f"{len(mixed):,} of the {people:,} people{f' of {of}' if of else ''} {verb} photos of more than one {column}"
    names = f"such as {', '.join(mixed[:_NAMED])}" if len(mixed) > _NAMED else ", ".join(mixed)
    ties = f" {tied:,} of them {'is' if tied == 1 else 'are'} tied, and of no known {column}." if tied else ""
    return f"{who} ({names}). Each of them counts as what most of their photos say.{ties}"
