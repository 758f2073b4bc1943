"""A run's data in the formats that other programs open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def export(data: xr.Dataset, path: Path) -> Path:
    """Write as the suffix says: .nc (netCDF), .zarr, or as a long table .parquet or .csv.

    The table has a row for each law, step and charge. Raises ValueError for another suffix, ImportError with the
    package to install where one is missing.
    """
    writer = _WRITERS.get(path.suffix)
    if writer is None:
        raise ValueError(f"cannot export to {path.name!r}: the suffix must be one of {', '.join(_WRITERS)}")
    _require_names(data, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer(data, path)
    except ImportError as error:
        package = {".parquet": "pyarrow", ".zarr": "zarr", ".nc": "netCDF4"}.get(path.suffix, "pandas")
        raise ImportError(f"exporting to {path.suffix} needs the package {package}: pip install {package}") from error
    return path


def long_table(data: xr.Dataset) -> pd.DataFrame:
    """One row a law, step and charge, with labels, measured and predicted values side by side."""
    # A table needs one name for the column of values and another for the number of the charge.
    renamed = data.reset_coords("charge").rename_vars(charge="measured")
    return renamed.to_dataframe(dim_order=["law", "step", "charge"]).reset_index()


def _require_names(data: xr.Dataset, path: Path) -> None:
    """`ValueError` for a logged scalar whose name the format gives another meaning, or already uses."""
    names = [str(name) for name in data.data_vars]
    if path.suffix in (".nc", ".zarr"):
        odd = next((name for name in names if "/" in name or name.startswith(".") or name != name.strip()), None)
        if odd is not None:
            raise ValueError(
                f"cannot export {odd!r} to {path.suffix}: no name there has a '/'; log it under another name"
            )
        return
    taken = {"measured", *map(str, data.coords)}
    odd = next((name for name in names if name in taken and name != "charge"), None)
    if odd is not None:
        raise ValueError(
            f"cannot export {odd!r} to {path.suffix}: a column of that name is there; log it under another"
        )


def _netcdf(data: xr.Dataset, path: Path) -> None:
    # Numbers of 64 bits and texts as characters, so that the classic format without extra packages takes them.
    texts = {name: data[name].astype(str) for name in ("law", "kind", "family", "label")}
    data.assign_coords(texts).to_netcdf(path)


def _zarr(data: xr.Dataset, path: Path) -> None:
    if _missing("zarr"):
        raise ImportError("zarr")
    texts = {name: data[name].astype(str) for name in ("law", "kind", "family", "label")}
    data.assign_coords(texts).to_zarr(path, mode="w")


def _parquet(data: xr.Dataset, path: Path) -> None:
    long_table(data).to_parquet(path, index=False)


def _csv(data: xr.Dataset, path: Path) -> None:
    long_table(data).to_csv(path, index=False)


def _missing(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is None


_WRITERS: dict[str, Callable[[xr.Dataset, Path], None]] = {
    ".nc": _netcdf,
    ".zarr": _zarr,
    ".parquet": _parquet,
    ".csv": _csv,
}
