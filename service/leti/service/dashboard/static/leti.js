// What pages do besides figures: ask before what cannot be undone, and say aloud what was loaded.
"use strict";
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
document.addEventListener("change", (event) => {
  const { ticks } = event.target.dataset;
  if (ticks) for (const box of event.target.form.querySelectorAll(`[name="${ticks}"]`)) box.checked = event.target.checked;
  const form = event.target.form;
  if (form && form.dataset.auto !== undefined) form.requestSubmit();
});
