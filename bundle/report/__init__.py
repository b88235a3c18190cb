"""Tables, figures and one HTML page about a run; works on plain dicts, arrays and files of any task."""

from .curves import read_scalars
from .figures import loss_curves, metric_boxplot, segmentation_panel, synthesis_grid
from .neighbours import neighbour_panel
from .page import human_bytes, human_seconds, write_report
from .table import (
    Metric,
    best_subset,
    display_name,
    get_metric,
    html_table,
    key_metric,
    markdown_table,
    mean_and_std,
    metric_names,
    order_settings,
    ratio_to_real_all,
    register_metric,
    text_table,
)

__all__ = [
    "Metric",
    "best_subset",
    "display_name",
    "get_metric",
    "html_table",
    "human_bytes",
    "human_seconds",
    "key_metric",
    "loss_curves",
    "markdown_table",
    "mean_and_std",
    "metric_boxplot",
    "metric_names",
    "neighbour_panel",
    "order_settings",
    "ratio_to_real_all",
    "read_scalars",
    "register_metric",
    "segmentation_panel",
    "synthesis_grid",
    "text_table",
    "write_report",
]
