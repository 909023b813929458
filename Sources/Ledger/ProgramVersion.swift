/// The program's version: `farebox --version` says it, and ledgers and backups keep which one wrote them last.
public enum ProgramVersion {
  public static let text = "0.1.0"
}
