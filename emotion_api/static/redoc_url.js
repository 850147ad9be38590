// fetch refuses an address with user:password@, and ReDoc adds the page's own to a relative one.
const here = new URL("openapi.json", location.href);
here.username = "";
here.password = "";
document.querySelector("redoc").setAttribute("spec-url", here.href);
