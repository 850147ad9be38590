// Relative addresses, so that the page also works below a proxy's prefix. fetch refuses one with user:password@.
const here = new URL("openapi.json", location.href);
here.username = "";
here.password = "";

SwaggerUIBundle({
  url: here.href,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout",
  validatorUrl: null, // it would send the document to swagger.io
});
