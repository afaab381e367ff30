// A browser gives up what it is fetching when the host's networks change, as they do where VPCs come and go.
const tries = Number(sessionStorage.getItem("lambay.tries") ?? 0);
import("/_lambay/console/static/app.js").then(
  () => sessionStorage.removeItem("lambay.tries"),
  (error) => {
    if (tries >= 5) {
      document.body.textContent = `The console can't be loaded: ${error.message}`;
      return;
    }
    sessionStorage.setItem("lambay.tries", String(tries + 1));
    setTimeout(() => location.reload(), 300 * (tries + 1));
  },
);
