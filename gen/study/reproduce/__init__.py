"""Published figures beside those that come out here: `systolith reproduce`."""

from .study import STUDIES, Figure, Study, reproduce, table

__all__ = ["STUDIES", "Figure", "Study", "reproduce", "table"]
