"""Tables, figures and one HTML page about a run; works on plain dicts, arrays and files of any task."""

from .boxplots import metric_boxplot
from .display_names import Metric, display_name, get_metric
from .extremes import extremes_grid
from .formats import human_bytes, human_seconds
from .histograms import histogram_row
from .losses import loss_curves
from .neighbours import neighbour_panel
from .page import FULL_PAGE, SHAREABLE_PAGE, make_report, write_report
from .page_figures import PageFigure, write_figure_list
from .result_tables import markdown_table, text_table
from .scalars import read_scalars
from .scores import (
    best_subset,
    key_metric,
    mean_and_std,
    metric_names,
    order_settings,
    plain_settings,
    ratio_to_reference,
)
from .segmentations import segmentation_panel
from .statistics import compute_statistics
from .synthesis import synthesis_grid
from .untrained import summarize_loss

__all__ = [
    "FULL_PAGE",
    "SHAREABLE_PAGE",
    "Metric",
    "PageFigure",
    "best_subset",
    "compute_statistics",
    "display_name",
    "extremes_grid",
    "get_metric",
    "histogram_row",
    "human_bytes",
    "human_seconds",
    "key_metric",
    "loss_curves",
    "make_report",
    "markdown_table",
    "mean_and_std",
    "metric_boxplot",
    "metric_names",
    "neighbour_panel",
    "order_settings",
    "plain_settings",
    "ratio_to_reference",
    "read_scalars",
    "segmentation_panel",
    "summarize_loss",
    "synthesis_grid",
    "text_table",
    "write_figure_list",
    "write_report",
]
