//! What may be called next with what an answer holds (OpenAPI 3.1, section 4.8.20).
//!
//! Without them a tool guesses, and may take a credential for an identifier.

use serde_json::{Map, Value, json};

/// Calls about a session.
const OF_SESSION: [&str; 6] =
    ["show_session", "step_up_session", "set_scope", "show_fields", "set_fields", "revoke_session"];

/// Calls about a subject.
const OF_SUBJECT: [&str; 6] =
    ["show_subject", "list_sessions_of_subject", "set_roles", "disable_subject", "enable_subject", "revoke_subject"];

/// Calls about an API key.
const OF_API_KEY: [&str; 3] = ["show_api_key", "rotate_api_key", "remove_api_key"];

/// An operation, the status of its answer, the parameters that this answer gives, and the operations that take them.
type Link = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const LINKS: [Link; 5] = [
    ("open_session", "201", &[("sid", "$response.body#/session_id")], &OF_SESSION),
    ("open_session", "201", &[("sub", "$request.body#/subject")], &OF_SUBJECT),
    ("step_up_session", "201", &[("sid", "$response.body#/session_id")], &OF_SESSION),
    ("show_fields", "200", &[("sid", "$request.path.sid"), ("If-Match", "$response.header.ETag")], &["set_fields"]),
    ("create_api_key", "201", &[("api_key", "$response.body#/id")], &OF_API_KEY),
];

/// Adds the links of an operation to its answers.
pub(super) fn add(id: &str, responses: &mut Map<String, Value>) {
    for (_, status, parameters, targets) in LINKS.iter().filter(|(from, ..)| *from == id) {
        let Some(answer) = responses.get_mut(*status) else { continue };
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        for target in *targets {
            answer["links"][*target] = json!({ "operationId": target, "parameters": parameters });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{openapi::Document, routes};

    #[test]
    fn links_lead_from_what_there_is_to_what_there_is() {
        let document = Document::new(&routes().1).unwrap();
        let json: Value = serde_json::from_slice(&document.text).unwrap();
        let operations: Vec<&Value> =
            json["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values()).collect();
        let find = |id: &str| *operations.iter().find(|operation| operation["operationId"] == id).unwrap();
        for (from, status, parameters, targets) in LINKS {
            for target in targets {
                let link = &find(from)["responses"][status]["links"][*target];
                assert_eq!(link["operationId"], *target, "{from} {status}");
                for (name, _) in parameters {
                    let takes = find(target)["parameters"].as_array().unwrap();
                    assert!(takes.iter().any(|parameter| parameter["name"] == *name), "{target} takes no {name}");
                }
            }
        }
    }
}
