"""What ``load_inline`` returns while its calls are only being noted."""

from __future__ import annotations

__all__ = ["StandIn"]


class StandIn:
    """Stands for an extension that is not built yet: attributes can be taken, nothing can be called."""

    def __init__(self, name: str) -> None:
        self.__dict__["_keck_name"] = name

    def __getattr__(self, attribute: str) -> StandIn:
        # Protocol look-ups (__iter__, __fspath__ …) must fail, or torch takes the stand-in for what it is not.
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        return StandIn(f"{self.__dict__['_keck_name']}.{attribute}")

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Say that it cannot be called yet."""
        raise RuntimeError(
            f"{self.__dict__['_keck_name']} was called while its extension was only being found, before any "
            "build: extension functions can be called in forward, not when the module is imported"
        )

    def __repr__(self) -> str:
        return f"<extension {self.__dict__['_keck_name']}, not built yet>"
