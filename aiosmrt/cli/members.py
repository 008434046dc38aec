"""What `--help` says of the flags that are members of a request."""

from __future__ import annotations

__all__ = ["MEMBERS"]

# By parameter: what stands for its value, and what it is for.
MEMBERS = {
    "endpoint_name": ("NAME", "the endpoint"),
    "body": ("BODY", "the text itself, @PATH for a file, - (the default) for standard input"),
    "content_type": ("TYPE", "MIME type of the body"),
    "accept": ("TYPE", "MIME type wanted of the answer"),
    "custom_attributes": ("TEXT", "passed on to the container as it is"),
    "target_model": ("NAME", "the model, of a multi-model endpoint"),
    "target_variant": ("NAME", "the production variant"),
    "target_container_hostname": ("NAME", "the container, of several"),
    "inference_id": ("ID", "names the call in captured data and in asynchronous outputs"),
    "enable_explanations": ("EXPR", "a JMESPath expression: which inputs are explained"),
    "inference_component_name": ("NAME", "the inference component"),
    "session_id": ("ID", "a stateful session; NEW_SESSION opens one"),
    "prefix_aware_id": ("ID", "requests of one ID reach the same instance, and its cache"),
    "input_location": ("S3_URI", "where the input is; sent in the place of a body"),
    "s3_output_path_extension": ("PATH", "goes behind the endpoint's output path"),
    "filename": ("NAME", "the output's file name"),
    "request_ttl_seconds": ("N", "how long the request may wait to be begun"),
    "invocation_timeout_seconds": ("N", "how long the model may take"),
}
