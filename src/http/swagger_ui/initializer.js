"use strict";

/** Shows each problem response as one line until the reader opens it. All of them together would fill several screens. */
const collapsedProblems = () => ({
  wrapComponents: {
    response: (Response, { React }) =>
      function CollapsedResponse(props) {
        const [isOpen, setOpen] = React.useState(!/^[45]/.test(props.code));
        if (isOpen) return React.createElement(Response, props);
        const open = React.createElement(
          "button",
          { type: "button", className: "model-box-control", "aria-expanded": false, onClick: () => setOpen(true) },
          props.response.get("description"),
        );
        return React.createElement(
          "tr",
          { className: "response", "data-code": props.code },
          React.createElement("td", { className: "response-col_status" }, props.code),
          React.createElement("td", { className: "response-col_description", colSpan: 2 }, open),
        );
      },
  },
});

window.onload = () => {
  window.ui = SwaggerUIBundle({
    // Relative, because an ingress may serve the gateway below a path.
    "url": "../openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayOperationId: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    // Without this, each page view asks an external service to validate the document.
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [collapsedProblems],
    layout: "BaseLayout",
  });
};
