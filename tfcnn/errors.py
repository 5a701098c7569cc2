"""The two errors a user is expected to meet; the command line prints them as one line."""


MANY = 16  # choices that a hint lists; beyond that the nearest have to do


class InputError(ValueError):
    """What was given cannot be used: says what was expected, what came, and what to do."""


class WorkError(RuntimeError):
    """The input was good but the work failed: a full disk, a download, a damaged file."""


def closest(name: str, choices) -> str:
    """A hint for a misspelt name: the nearest choice if there is one, and all of them where they are few."""
    import difflib

    choices = [str(choice) for choice in choices]
    lower = {choice.lower(): choice for choice in choices}
    many = len(choices) > MANY
    near = [lower[match] for match in difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)]
    if near:
        return f"did you mean '{near[0]}'?" + ("" if many else f" (all: {', '.join(choices)})")
    return f"choose one of: {', '.join(choices[:MANY])}" + (f" and {len(choices) - MANY} more" if many else "")


def first_line(error: Exception) -> str:
    """The first line of what a library says; some of their errors say nothing."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def is_plain(text: str) -> bool:
    """True for a text that can be a line of a UTF-8 file; file names on disk need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return text.splitlines() == [text]
