"""The table of the API's endpoints, from the operations of the OpenAPI document."""

from emotion_api.web.auth import OPEN_VIEWS
from emotion_api.web.operations import OPERATIONS
from tests.documents.markdown import table


def endpoints() -> str:
    """Return the table of the endpoints."""
    return table(
        ["GET", "response", "parameters", "token"],
        [
            (
                f"`{each.path}`",
                f"{each.title}: {', '.join(f'`{media_type}`' for media_type in each.content)}",
                ", ".join(f"`{name}`" for name in each.parameter_names) or "none",
                "no" if each.view in OPEN_VIEWS else "if tokens are set",
            )
            for each in OPERATIONS
        ],
    )
