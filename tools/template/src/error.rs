//! What can be wrong with a template.

/// Why a template cannot be read or resolved. Each names the place (`Resources.JobQueue.Properties.QueueName`) or the name
/// that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Not YAML, or a mapping with the same key twice.
    #[error("the template is not valid YAML")]
    Yaml(#[source] serde_yaml_ng::Error),

    /// A YAML construct that has no meaning in a template, such as a mapping key that is not text.
    #[error("{at}: {reason}")]
    Malformed {
        /// The place.
        at: String,
        /// What is wrong there.
        reason: String,
    },

    /// An intrinsic function that this crate does not resolve.
    #[error(
        "{at}: the intrinsic function {name} is not known here; write it with !Ref, !GetAtt or !Sub, or teach `darkroom-template` to resolve it"
    )]
    UnknownIntrinsic {
        /// The place.
        at: String,
        /// The function as written, such as `!ImportValue`.
        name: String,
    },

    /// A resource type, event type, property or section that this crate does not know. Refused, since the local system would
    /// otherwise quietly differ from the deployed one.
    #[error("{at}: {name} is not known here; teach `darkroom-template` what it means for the local system")]
    Unknown {
        /// The place.
        at: String,
        /// The name that is not known.
        name: String,
    },

    /// Something that must be there and is not.
    #[error("{at} is missing")]
    Missing {
        /// The place.
        at: String,
    },

    /// A value of another kind than the place needs.
    #[error("{at}: expected {expected}, found {found}")]
    Mismatch {
        /// The place.
        at: String,
        /// What the place needs.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A reference to a parameter, resource or attribute that does not exist.
    #[error("{at}: there is nothing named {name} to refer to")]
    DanglingReference {
        /// The place.
        at: String,
        /// What was referred to, such as `JobQueue.Arn`.
        name: String,
    },

    /// Names of resources that refer to each other in a circle.
    #[error("{at}: the references lead back to themselves")]
    Circular {
        /// The place.
        at: String,
    },

    /// Values of the parameters that a rule refuses together.
    #[error("rule {name}: {reason}")]
    Rule {
        /// The rule.
        name: String,
        /// What it says about it.
        reason: String,
    },

    /// A parameter without a value, with a value that the template forbids, or that the template does not have.
    #[error("parameter {name}: {reason}")]
    Parameter {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}
