// Draws what stands in a page's data as charts: stacked columns of outcomes, lines of durations on a logarithmic scale, and of scores from 0 to 100.
// Colours come from the style sheet, so that themes and contrast are its business. The table beside a chart says the same.
(() => {
  const DASHES = [[], [6, 4]];
  const HEIGHT = 240;
  const drawn = [];

  const colour = (key) => {
    // Resolves light-dark(): a custom property alone would keep it as it is written.
    const probe = document.createElement("span");
    probe.style.color = `var(--rw-chart-${key}, currentcolor)`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const themed = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const duration = (seconds, units) => {
    if (seconds < 1) return `${Math.round(seconds * 1000)} ${units.ms}`;
    if (seconds < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} ${units.s}`;
    if (seconds < 3600) return `${Math.round(seconds / 60)} ${units.min}`;
    return `${Math.round(seconds / 360) / 10} ${units.h}`;
  };

  const draw = (figure) => {
    const data = JSON.parse(document.getElementById(figure.dataset.chart).textContent);
    const place = figure.querySelector("[data-plot]");
    const valueLine = figure.querySelector("[data-value]");
    const legend = figure.querySelector("[data-legend]");
    const isStacked = data.kind === "stacked";
    const isScore = data.kind === "scores";
    const starts = data.edges.slice(0, -1);
    const hidden = figure.hiddenSeries || (figure.hiddenSeries = new Set());
    const shown = data.series.filter((one) => !hidden.has(one.key));
    const numbers = new Intl.NumberFormat(data.language);
    const short = new Intl.NumberFormat(data.language, { notation: "compact" });
    const written = (value) => (value === null || value === undefined ? data.noData
      : isStacked || isScore ? numbers.format(value) : duration(value, data.units));
    const dates = data.by === "day"
      ? { month: "short", day: "numeric" }
      : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
    const day = new Intl.DateTimeFormat(data.language, { timeZone: data.zone, month: "numeric", day: "numeric" });
    const clock = new Intl.DateTimeFormat(data.language, { timeZone: data.zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const when = new Intl.DateTimeFormat(data.language, { ...dates, timeZone: data.zone });

    // The topmost layer is drawn first and covered by those below it, each being the sum up to itself.
    const sums = [];
    shown.forEach((one, index) => {
      sums.push(isStacked ? one.values.map((value, at) => value + (index ? sums[index - 1][at] : 0)) : one.values);
    });
    const order = shown.map((_, index) => (isStacked ? shown.length - 1 - index : index));

    const say = (at) => {
      if (at === null || at === undefined || at < 0 || at >= starts.length) {
        valueLine.textContent = "\u00a0";
        return;
      }
      const running = data.isRunning && at === starts.length - 1 ? ` (${data.soFar})` : "";
      const parts = shown.map((one) => `${one.label} ${written(one.values[at])}`);
      valueLine.textContent = `${when.format(starts[at] * 1000)}${running}: ${parts.join(", ")}`;
    };

    const grid = { stroke: themed("--rw-rule"), width: 1 };
    const axis = { stroke: themed("--rw-soft"), grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const series = order.map((index) => {
      const one = shown[index];
      const line = colour(one.key);
      return isStacked
        ? { label: one.label, stroke: line, fill: line, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.8, 60], align: 1 }) }
        : { label: one.label, stroke: line, width: 2, dash: DASHES[index % DASHES.length], points: { show: starts.length < 60, size: 5 } };
    });
    const step = data.edges[1] - data.edges[0];
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth),
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), data.zone),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: [data.edges[0], data.edges[data.edges.length - 1]] },
        y: isStacked
          ? { range: (_, __, most) => [0, Math.max(4, most * 1.05)] }
          : isScore ? { range: [0, 100] }
          : { distr: 3, range: (_, least, most) => [Math.max(0.001, (least || 0.1) / 2), (most || 1) * 2] },
      },
      axes: [
        { ...axis, values: (_, splits, __, ___, gap) => splits.map((at) => {
          const hour = gap < 86400 && clock.format(at * 1000);
          return hour && !/^(00|24)[:.]00/.test(hour) ? hour : day.format(at * 1000);
        }) },
        { ...axis, size: isStacked || isScore ? 56 : 84, values: (_, splits) => splits.map((value) => (value === null ? "" : isStacked || isScore ? (Number.isInteger(value) ? short.format(value) : "") : duration(value, data.units))) },
      ],
      series: [{}, ...series],
      hooks: {
        setCursor: [(chart) => {
          if (chart.cursor.left < 0) return;
          const second = chart.posToVal(chart.cursor.left, "x");
          let at = starts.length - 1;
          while (at > 0 && starts[at] > second) at -= 1;
          say(at);
        }],
        draw: [(chart) => {
          // The column that is still running is hatched.
          if (!isStacked || !data.isRunning) return;
          const left = chart.valToPos(starts[starts.length - 1], "x", true);
          const right = chart.valToPos(starts[starts.length - 1] + step * 0.8, "x", true);
          const { top, height } = chart.bbox;
          const context = chart.ctx;
          context.save();
          context.beginPath();
          context.rect(left, top, right - left, height);
          context.clip();
          context.strokeStyle = themed("--rw-card");
          context.lineWidth = 1.5;
          for (let x = left - height; x < right; x += 7) {
            context.beginPath();
            context.moveTo(x, top + height);
            context.lineTo(x + height, top);
            context.stroke();
          }
          context.restore();
        }],
      },
    }, [starts, ...order.map((index) => sums[index])], place);

    legend.hidden = false;
    legend.replaceChildren(...data.series.map((one, index) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(one.key)));
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      mark.setAttribute("viewBox", "0 0 20 12");
      mark.setAttribute("aria-hidden", "true");
      const shape = document.createElementNS("http://www.w3.org/2000/svg", isStacked ? "rect" : "line");
      const attributes = isStacked ? { x: 2, y: 0, width: 16, height: 12, fill: colour(one.key) }
        : { x1: 0, y1: 6, x2: 20, y2: 6, stroke: colour(one.key), "stroke-width": 3, "stroke-dasharray": DASHES[index % DASHES.length].join(" ") };
      Object.entries(attributes).forEach(([name, value]) => shape.setAttribute(name, value));
      mark.append(shape);
      button.append(mark, one.label);
      button.addEventListener("click", () => {
        // The last one stays: an empty chart says nothing.
        if (!hidden.delete(one.key) && hidden.size < data.series.length - 1) hidden.add(one.key);
        redraw(figure);
        legend.children[index].firstChild.focus();
      });
      item.append(button);
      return item;
    }));

    let at = starts.length;
    place.tabIndex = 0;
    place.onkeydown = (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -starts.length, End: starts.length }[event.key];
      if (!move) return;
      event.preventDefault();
      at = Math.min(starts.length - 1, Math.max(0, at + move));
      plot.setCursor({ left: plot.valToPos(starts[at] + step / 2, "x"), top: 10 }, false);
      say(at);
    };
    place.onblur = () => { plot.setCursor({ left: -10, top: -10 }, false); say(null); };
    place.onmouseleave = () => say(null);
    return plot;
  };

  const redraw = (figure) => {
    const entry = drawn.find((one) => one.figure === figure);
    entry.plot.destroy();
    entry.plot = draw(figure);
  };

  document.querySelectorAll("[data-chart]").forEach((figure) => {
    drawn.push({ figure, plot: draw(figure), width: figure.clientWidth });
  });
  document.querySelectorAll("[data-table]").forEach((table) => { table.open = false; });

  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach((entry) => {
      if (entry.figure.clientWidth === entry.width) return;
      entry.width = entry.figure.clientWidth;
      redraw(entry.figure);
    }), 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((entry) => redraw(entry.figure)));
})();
