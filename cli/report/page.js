// Draws FIGURES in the colours of the reader's theme, and again when theme or width change.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = (given, isX) => ({
    ...given,
    title: { text: given.title, standoff: 8 },
    automargin: true,
    gridcolor: colour("--line"),
    zerolinecolor: colour("--line"),
    linecolor: colour("--line"),
    nticks: isX && narrow.matches ? 5 : 8,
  });
  const draw = () => {
    for (const [number, figure] of FIGURES.entries()) {
      const named = figure.data.filter((trace) => trace.showlegend !== false).length;
      const data = figure.data.map((trace) => trace.type !== "heatmap" ? trace : {
        ...trace,
        colorscale: [[0, colour("--panel")], [1, colour("--accent")]],
        colorbar: { thickness: 12, tickformat: ".0%", tickcolor: colour("--ink") },
      });
      const height = figure.height + (narrow.matches && named > 2 ? 18 * named : 0);
      document.getElementById(`f${number}`).style.height = `${height}px`;
      const layout = {
        ...figure.layout,
        height,
        margin: { l: 48, r: 12, t: 12, b: 44 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), size: 13 },
        hoverlabel: { bgcolor: colour("--panel"), font: { color: colour("--ink") } },
        xaxis: axis(figure.layout.xaxis, true),
        yaxis: axis(figure.layout.yaxis, false),
        showlegend: figure.layout.showlegend ?? named > 1,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      };
      Plotly.react(`f${number}`, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  };
  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
