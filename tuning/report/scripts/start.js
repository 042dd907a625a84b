// Starts the page: first the table, which needs nothing, then the charts.

startTable();
loadPlotly().then(watchPlots, () => {
  document.getElementById("no-charts").hidden = false;
});
