// The send log's filters: short addresses. Works without, only less neatly.
(() => {
  const form = document.querySelector("[data-filters]");
  form.addEventListener("submit", () => {
    const empty = [...form.elements].filter((field) => field.name && !field.disabled
      && (!field.value.trim() || (field.name === "days" && field.value === "7")));
    empty.forEach((field) => { field.disabled = true; });
    setTimeout(() => { empty.forEach((field) => { field.disabled = false; }); });
  });
})();
