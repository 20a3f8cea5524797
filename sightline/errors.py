"""What we tell people who made a mistake: where it is, what is wrong, what to do."""

from __future__ import annotations


class UserError(Exception):
    """Base of all errors that a user can mend. Shown without traceback; the process ends with code 1."""

    def __init__(self, where: str, problem: str, fix: str) -> None:
        super().__init__(where, problem, fix)
        self.where = where
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}\n  {self.fix}"


class RecipeError(UserError):
    """The recipe, or an override of it, is wrong."""


class DataError(UserError):
    """A file, picture or row that the user brought is wrong."""


class RunError(UserError):
    """The run's folder or store cannot be used as asked."""


class TrainingError(UserError):
    """Training would be, or has become, wrong: it stops here."""


class MissingPackage(UserError):
    """An optional package is not installed."""
