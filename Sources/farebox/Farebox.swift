@main struct Farebox { static func main() { print("farebox") } }
