"""`zoodip models`: list the base models of the catalog."""

from __future__ import annotations

from zoodip_core.cli.console import print_json, print_table
from zoodip_core.cli.options import CatalogOption, JsonOption


def models(catalog: CatalogOption = None, as_json: JsonOption = False) -> None:
    """List the base models that can be personalized."""
    from zoodip_core.base_models.catalog import Catalog

    loaded = Catalog.load(catalog)
    rows = [
        {
            "name": entry.name,
            "default": entry.name == loaded.default.name,
            "precision": str(entry.precisions),
            "source": str(entry.path or entry.hub_id),
        }
        for entry in loaded.entries
    ]
    if as_json:
        print_json({"base_models": rows})
    else:
        columns = ["name", "default", "precision", "source"]
        print_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: object) -> str:
    return {True: "yes", False: ""}.get(value, str(value)) if isinstance(value, bool) else str(value)
