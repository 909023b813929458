import ArgumentParser
import Ledger

@main
struct Farebox: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "farebox",
    abstract: "Sell an HTTP API to agents: a reverse proxy that asks for payment, meters, and keeps the books.",
    discussion: """
      Begin with a copy of proxy.conf.example, which explains every setting:

        farebox check proxy.conf     say what the configuration does, or what is wrong with it
        farebox serve proxy.conf     run the proxy; keys and ledger are created on first start

      The other commands find the configuration by --config, by the variable FAREBOX_CONFIG, as ./proxy.conf, or as \
      /etc/farebox/proxy.conf. They speak to the running proxy, and work on the ledger itself when none runs. \
      Every one of them knows --json.

      Exit status, but for `farebox pay`, which has its own:
      \(ExitStatus.table)
      """,
    version: ProgramVersion.text,
    subcommands: [
      ServeCommand.self, CheckCommand.self, ReloadCommand.self, UpgradeCommand.self, WalletCommand.self, SessionCommand.self, MerchantCommand.self, RefundCommand.self,
      LedgerCommand.self, ChainCommand.self, PaymentCommand.self, ChannelCommand.self, KeysCommand.self, AuditCommand.self, MetricsCommand.self, Pay.self,
    ])
}
