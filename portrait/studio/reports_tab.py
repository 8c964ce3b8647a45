"""The tab of the page that opens the runs of campaigns; it is there where there are some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from portrait.studio import page, strings
from portrait.studio.jobs import to_user_error
from portrait.studio.reports import Reports


class ReportsTab:
    """Selectors for a run and a baseline, and the report."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports

    def build(self) -> None:
        names = self.reports.names()
        info = strings.RUN_INFO.format(root=self.reports.root)
        with gr.Tab(strings.TAB_REPORTS, id="reports", visible=bool(names)) as self.tab:
            with gr.Row():
                self.run = gr.Dropdown(names, value=None, label=strings.RUN, info=info, elem_id="run")
                self.baseline = gr.Dropdown(
                    [(strings.NO_BASELINE, ""), *names], value="", label=strings.BASELINE, info=strings.BASELINE_INFO
                )
            self.report = gr.HTML(
                page.notice(strings.CHOOSE_RUN), apply_default_css=False, js_on_load=None, elem_id="report"
            )

    def wire(self, blocks: gr.Blocks, options: Mapping[str, Any]) -> None:
        """Connect the blocks to their handlers; `options` are those of every event of the page."""
        selectors = [self.run, self.baseline]
        chosen = {**options, "trigger_mode": "always_last", "concurrency_limit": 2}
        gr.on([self.run.input, self.baseline.input], self._on_run, selectors, [self.report], **chosen)
        self.run.focus(self._on_runs, None, selectors, **options)
        blocks.load(self._on_load, None, [self.tab, *selectors], **options)

    def _on_run(self, name: str | None, baseline: str | None) -> Iterator[str]:
        if not name:
            yield page.notice(strings.CHOOSE_RUN)
            return
        yield page.notice(strings.REPORT_COMES)
        try:
            yield page.report_html(self.reports.page(name, baseline or ""), name)
        except Exception as error:
            yield page.alert(str(to_user_error(error)))

    def _on_load(self) -> tuple[Any, Any, Any]:
        runs, baselines = self._on_runs()
        return gr.update(visible=bool(runs["choices"])), runs, baselines

    def _on_runs(self) -> tuple[Any, Any]:
        names = self.reports.names()
        return gr.update(choices=names), gr.update(choices=[(strings.NO_BASELINE, ""), *names])
