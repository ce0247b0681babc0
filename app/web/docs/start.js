// Swagger UI loses the order of more than eight properties. Sorting by name keeps the operators of a filter together.
const propertiesByName = (system) => ({
  wrapComponents: {
    JSONSchema202012KeywordProperties: (Original) => (props) => {
      const properties = Object.fromEntries(Object.entries(props.schema.properties ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)));
      return system.React.createElement(Original, { ...props, schema: { ...props.schema, properties } });
    },
  },
});

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#document",
  deepLinking: true,
  validatorUrl: null,
  plugins: [propertiesByName],
});
