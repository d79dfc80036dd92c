// Sets the theme that the reader chose before anything is drawn. It is no module: those wait for the page.
"use strict";
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* Storage may be forbidden; the system's theme is shown then. */ }
