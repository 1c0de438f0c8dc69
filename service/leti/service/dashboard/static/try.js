// A model file that is chosen or dropped is sent as it is; then the page goes to where it is read.
"use strict";
(() => {
  function begin(place) {
    const input = place.querySelector("input[type=file]"), bar = place.querySelector("progress");
    const said = place.querySelector("[data-said]"), refused = place.querySelector("[data-refused]");
    let sending = null;

    function refuse(text) {
      bar.hidden = true;
      refused.hidden = false;
      refused.textContent = text;
      said.textContent = "Choose a file, or drop it here.";
      input.setAttribute("aria-invalid", "true");
    }

    function why(request) {
      try {
        const problem = JSON.parse(request.responseText);
        return [problem.field, problem.detail, problem.remedy].filter(Boolean).join(" · ");
      } catch {
        return `The service answered ${request.status} ${request.statusText}.`;
      }
    }

    function send(file) {
      const format = /\.(tflite|onnx)$/i.exec(file.name)?.[1].toLowerCase();
      refused.hidden = true;
      input.removeAttribute("aria-invalid");
      if (!format) { refuse(`${file.name} is neither a .tflite nor an .onnx file.`); return; }
      sending?.abort();
      const request = sending = new XMLHttpRequest();
      request.open("POST", `${place.dataset.upload}?format=${format}`);
      request.setRequestHeader("content-type", "application/octet-stream");
      if (place.dataset.proof) request.setRequestHeader("x-csrf-token", place.dataset.proof);
      bar.hidden = false;
      bar.value = 0;
      said.textContent = `Sending ${file.name}…`;
      request.upload.onprogress = (event) => {
        if (!event.lengthComputable) return;
        bar.value = event.loaded / event.total;
        said.textContent = `Sending ${file.name}: ${Math.round((100 * event.loaded) / event.total)} %`;
      };
      request.onload = () => {
        if (request.status !== 200 && request.status !== 201) { refuse(why(request)); return; }
        location.assign(place.dataset.then + JSON.parse(request.responseText).id);
      };
      request.onerror = () => refuse("The file could not be sent: the connection ended.");
      request.send(file);
    }

    place.hidden = false;
    input.addEventListener("change", () => { if (input.files.length) send(input.files[0]); });
    for (const name of ["dragenter", "dragover"]) {
      place.addEventListener(name, (event) => { event.preventDefault(); place.classList.add("over"); });
    }
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("over");
      if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
  }
  addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-upload]").forEach(begin));
})();
