"""HTTP: routes, schemas, keys, uploads, events. It never loads torch; what needs a model is a job."""
